"""Generated machine code. Kernels take arrays and integers, check nothing, and import nothing above this package."""
