build/test/core/region.o: csrc/region.c csrc/region.h csrc/os.h csrc/kv.h \
 csrc/crc32c.h
csrc/region.h:
csrc/os.h:
csrc/kv.h:
csrc/crc32c.h:
