build/test/core/json_edit.o: csrc/json_edit.c csrc/json_edit.h \
 csrc/json.h csrc/json_part.h
csrc/json_edit.h:
csrc/json.h:
csrc/json_part.h:
