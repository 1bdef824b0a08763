build/test/core/order_node.o: csrc/order_node.c csrc/order_node.h \
 csrc/order.h csrc/region.h csrc/os.h csrc/kv.h
csrc/order_node.h:
csrc/order.h:
csrc/region.h:
csrc/os.h:
csrc/kv.h:
