build/test/core/crc32c.o: csrc/crc32c.c csrc/crc32c.h
csrc/crc32c.h:
