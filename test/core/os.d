build/test/core/os.o: csrc/os.c csrc/os.h csrc/kv.h
csrc/os.h:
csrc/kv.h:
