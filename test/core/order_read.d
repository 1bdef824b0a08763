build/test/core/order_read.o: csrc/order_read.c csrc/order_node.h \
 csrc/order.h csrc/region.h csrc/os.h csrc/kv.h
csrc/order_node.h:
csrc/order.h:
csrc/region.h:
csrc/os.h:
csrc/kv.h:
