build/test/core/os_tree.o: csrc/os_tree.c csrc/os.h csrc/kv.h
csrc/os.h:
csrc/kv.h:
