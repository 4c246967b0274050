#include <stdio.h>

int main(void) {
    puts("compiled in one stage, run from another");
    return 0;
}
