"""What tests share: tiny tasks, runs, kills, batches, servers."""
