#include "npy.h"

#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
    throw std::runtime_error(path + ": " + reason);
}

uint32_t little_endian(const std::string& bytes, size_t first, size_t count) {
    uint32_t value = 0;
    for (size_t i = 0; i < count; ++i) value |= uint32_t(static_cast<unsigned char>(bytes[first + i])) << (8 * i);
    return value;
}

// The text between the magic number and the data, a Python dictionary; moves `data_at` to the data.
std::string read_header(const std::string& path, const std::string& bytes, size_t& data_at) {
    if (bytes.size() < 12 || bytes.compare(0, 6, "\x93NUMPY") != 0) refuse(path, "not a .npy file");
    const size_t width = bytes[6] == 1 ? 2 : 4;  // of the header's length, by version
    const size_t length = little_endian(bytes, 8, width);
    data_at = 8 + width + length;
    if (data_at > bytes.size()) refuse(path, "the file ends within its header");
    return bytes.substr(8 + width, length);
}

std::string find(const std::string& path, const std::string& header, const char* pattern) {
    std::smatch match;
    if (!std::regex_search(header, match, std::regex(pattern))) refuse(path, "a header that is not NumPy's: " + header);
    return match[1];
}

std::vector<int64_t> strides_of(const std::vector<int64_t>& shape, bool fortran) {
    std::vector<int64_t> stride(shape.size());
    int64_t step = 1;
    for (size_t i = 0; i < shape.size(); ++i) {
        const size_t axis = fortran ? i : shape.size() - 1 - i;
        stride[axis] = step;
        step *= shape[axis];
    }
    return stride;
}

}  // namespace

Array read_npy(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) refuse(path, "can't be opened");
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    size_t data_at = 0;
    const std::string header = read_header(path, bytes, data_at);

    const std::string type = find(path, header, "'descr': *'([^']*)'");
    if (type != "<f4") refuse(path, "must hold float32 (<f4), holds " + type);
    Array array;
    const std::string shape = find(path, header, "'shape': *\\(([^)]*)\\)");
    const std::regex number("[0-9]+");
    size_t count = 1;
    for (std::sregex_iterator it(shape.begin(), shape.end(), number), end; it != end; ++it) {
        const size_t side = std::stoull(it->str());
        if (side != 0 && count > bytes.size() / side) refuse(path, "the file ends within its data");
        array.shape.push_back(int64_t(side));
        count *= side;
    }
    array.stride = strides_of(array.shape, find(path, header, "'fortran_order': *(True|False)") == "True");

    if ((bytes.size() - data_at) / sizeof(float) < count) refuse(path, "the file ends within its data");
    array.data.resize(count);
    for (size_t i = 0; i < count; ++i) {
        const uint32_t bits = little_endian(bytes, data_at + 4 * i, 4);
        static_assert(sizeof bits == sizeof(float), "float is 32 bits wide");
        __builtin_memcpy(&array.data[i], &bits, sizeof bits);
    }
    return array;
}
