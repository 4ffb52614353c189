spillway_test(swapper_fault_test
  SOURCES swapper_devices_test.cc swapper_nth_failure_test.cc
  LIBRARIES spillway::swapper spillway_test_support
  LABELS fault)
spillway_test(swapper_disk_fault_test SOURCES swapper_disk_test.cc
              LIBRARIES spillway::swapper spillway_test_support LABELS fault root)
spillway_test(allocation_fault_test SOURCES allocation_test.cc
              LIBRARIES spillway::swapper spillway_test_support LABELS fault)
