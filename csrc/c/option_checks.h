// Checks of the options, each with a sentence that names the member, what came and what may come.
#pragma once

#include "tensor_checks.h"

namespace simplematch::abi {

void check_sampling(const simplematch_sampling& sampling, int64_t batch);
void check_metric(const simplematch_metric& metric);
// `number`: the temperature is localization.temperature, no tensor gives it.
void check_localization(const simplematch_localization& localization, int64_t batch, bool number);
// As above; `Truth::temperature`.
void check_truth(const simplematch_truth& truth, bool number);
void check_score_budget(int64_t bytes);
// Of an axis, for the maps between pixels and cells.
void check_axis(int32_t coordinates, const char* cells_name, int64_t cells, const char* pixels_name, int64_t pixels);

void check_device(const simplematch_device& device);
// `needed` bytes of scratch memory for this call.
void check_workspace(const simplematch_device& device, int64_t needed);

}  // namespace simplematch::abi
