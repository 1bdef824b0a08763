build/test/core/log.o: csrc/log.c csrc/log.h csrc/record.h csrc/crc32c.h \
 csrc/kv.h csrc/os.h
csrc/log.h:
csrc/record.h:
csrc/crc32c.h:
csrc/kv.h:
csrc/os.h:
