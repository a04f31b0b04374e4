import sys

from silk_fast.cli import main

sys.exit(main())
