build/test/core/record.o: csrc/record.c csrc/record.h csrc/crc32c.h \
 csrc/kv.h csrc/os.h
csrc/record.h:
csrc/crc32c.h:
csrc/kv.h:
csrc/os.h:
