build/test/core/order.o: csrc/order.c csrc/order_list.h csrc/order_node.h \
 csrc/order.h csrc/region.h csrc/os.h csrc/kv.h
csrc/order_list.h:
csrc/order_node.h:
csrc/order.h:
csrc/region.h:
csrc/os.h:
csrc/kv.h:
