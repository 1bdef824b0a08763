build/test/core/blob.o: csrc/blob.c csrc/blob.h csrc/kv.h csrc/os.h \
 csrc/crc32c.h
csrc/blob.h:
csrc/kv.h:
csrc/os.h:
csrc/crc32c.h:
