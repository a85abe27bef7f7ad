// float32 arrays from NumPy's .npy files, in either order of memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct Array {
    std::vector<float> data;
    std::vector<int64_t> shape;
    std::vector<int64_t> stride;  // in elements
};

// Throws std::runtime_error, with the path, if the file is not there, is no .npy file, holds another type or is cut off.
Array read_npy(const std::string& path);
