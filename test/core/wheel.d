build/test/core/wheel.o: csrc/wheel.c csrc/wheel.h csrc/region.h \
 csrc/os.h csrc/kv.h
csrc/wheel.h:
csrc/region.h:
csrc/os.h:
csrc/kv.h:
