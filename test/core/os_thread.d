build/test/core/os_thread.o: csrc/os_thread.c csrc/os.h csrc/kv.h
csrc/os.h:
csrc/kv.h:
