"""What training and evaluation share: the YAML schema, the collections, the folder on disk, the token store."""

import os

# Threads that wait for each other sleep instead of spinning. On a machine that others use too, spinning makes the small
# operations of a training step tens of times slower. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
