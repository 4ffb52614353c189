// SPILLWAY_API: what a shared library shows; all else is hidden (-fvisibility=hidden).
//
// It stands on every public class that has functions outside its header, and on every public
// function. A class declared inside such a class would be shown too, hence SPILLWAY_LOCAL.
// tests/install/symbols_test.py looks at what the libraries show. C and C++.
#pragma once

#ifdef __cplusplus  // beside other [[attributes]] gcc 12 takes none in the older spelling
#define SPILLWAY_API [[gnu::visibility("default")]]
#define SPILLWAY_LOCAL [[gnu::visibility("hidden")]]
#else
#define SPILLWAY_API __attribute__((visibility("default")))
#endif
