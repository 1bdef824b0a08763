build/test/core/log_walk.o: csrc/log_walk.c csrc/log.h csrc/record.h \
 csrc/crc32c.h csrc/kv.h csrc/os.h
csrc/log.h:
csrc/record.h:
csrc/crc32c.h:
csrc/kv.h:
csrc/os.h:
