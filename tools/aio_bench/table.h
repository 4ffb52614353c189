// The output of aio_bench: the target's card, the table, the recommendation.
#pragma once

#include "report.h"

namespace spillway::aio_bench {

void print_card(const Report& report);
void print_table(const Report& report);
void print_fio(const Report& report);
void print_recommendation(const Report& report);

}  // namespace spillway::aio_bench
