// What a result was measured on: CPU, memory, system, compiler, torch, commit.
#pragma once

// Prints them as three lines of Markdown.
void print_machine_card();
