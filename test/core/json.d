build/test/core/json.o: csrc/json.c csrc/json_part.h csrc/json.h
csrc/json_part.h:
csrc/json.h:
