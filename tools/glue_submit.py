"""Writes a submission to GLUE, scores what it would be, or checks one: `mtdnn-submit`.

python tools/glue_submit.py --workdir=runs/glue --glue_dir=GLUE --output=submission.zip
"""

from mtdnn_tf.binaries.submit import main

if __name__ == "__main__":
    main()
