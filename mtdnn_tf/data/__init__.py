"""From files of text to packed batches: sources, tokenizer, store, mixture, packing, pipeline."""
