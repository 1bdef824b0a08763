build/test/core/os_dir.o: csrc/os_dir.c csrc/os.h csrc/kv.h
csrc/os.h:
csrc/kv.h:
