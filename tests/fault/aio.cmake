spillway_test(engine_simulated_fault_test SOURCES engine_simulated_test.cc
              LIBRARIES spillway_test_support LABELS fault)
spillway_test(engine_limits_fault_test SOURCES engine_limits_test.cc
              LIBRARIES spillway_test_support LABELS fault)
spillway_test(engine_disk_fault_test SOURCES engine_disk_test.cc
              LIBRARIES spillway_test_support LABELS fault root)
spillway_test(striped_file_fault_test SOURCES striped_file_test.cc
              LIBRARIES spillway_test_support LABELS fault)
