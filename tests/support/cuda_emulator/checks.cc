// What -fsanitize=alignment,bounds calls when an access is wrong; libubsan itself would print and go on.
#include "runtime.h"

namespace {

struct Location {
  const char *file;
  uint32_t line, column;
};
struct Type {
  uint16_t kind, info;
  char name[1];  // in quotes
};
struct Mismatch {
  Location location;
  const Type *type;
  unsigned char log_alignment, kind;
};
struct OutOfBounds {
  Location location;
  const Type *array, *index;
};

}  // namespace

extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(Mismatch *data,
                                                                                       uintptr_t pointer) {
  convc::fail("line %u: an access as %s at address %#llx, which is not a multiple of %u", data->location.line,
              data->type->name, static_cast<unsigned long long>(pointer), 1u << data->log_alignment);
}

extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_out_of_bounds(OutOfBounds *data,
                                                                                    uintptr_t index) {
  convc::fail("line %u: index %lld of an array %s", data->location.line, static_cast<long long>(index),
              data->array->name);
}
