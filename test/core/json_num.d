build/test/core/json_num.o: csrc/json_num.c csrc/json_part.h csrc/json.h
csrc/json_part.h:
csrc/json.h:
