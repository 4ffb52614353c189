spillway_test(swapper_fault_test
  SOURCES swapper_devices_test.cc swapper_nth_failure_test.cc
  LIBRARIES spillway::swapper spillway_test_support
  LABELS fault)
