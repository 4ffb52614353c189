// SPILLWAY_API: marks a symbol that the shared libraries export. All others are hidden
// (-fvisibility=hidden).
//
// It marks every public function, and every public class with functions outside its header. A class
// nested in such a class would be exported too: SPILLWAY_LOCAL hides it.
// tests/install/symbols_test.py checks the exports. C and C++.
#pragma once

#ifdef __cplusplus  // beside other [[attributes]] gcc 12 takes none in the older spelling
#define SPILLWAY_API [[gnu::visibility("default")]]
#define SPILLWAY_LOCAL [[gnu::visibility("hidden")]]
#else
#define SPILLWAY_API __attribute__((visibility("default")))
#endif
