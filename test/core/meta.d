build/test/core/meta.o: csrc/meta.c csrc/meta.h csrc/kv.h csrc/os.h \
 csrc/crc32c.h
csrc/meta.h:
csrc/kv.h:
csrc/os.h:
csrc/crc32c.h:
