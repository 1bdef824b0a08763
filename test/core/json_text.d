build/test/core/json_text.o: csrc/json_text.c csrc/json_part.h \
 csrc/json.h
csrc/json_part.h:
csrc/json.h:
