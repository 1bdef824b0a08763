build/test/core/hash.o: csrc/hash.c csrc/hash.h csrc/region.h csrc/os.h \
 csrc/kv.h
csrc/hash.h:
csrc/region.h:
csrc/os.h:
csrc/kv.h:
