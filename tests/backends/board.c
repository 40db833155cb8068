// Runs compiled kernels in a process of the target's own: `board CASES` reads cases, tensors and calls, from the file, and for each
// makes the calls in order and writes the last tensor to standard output before it reads on. It stands in for the few functions of
// TVM's runtime that kernels call.
//
// The file, all in int64 but for the elements: cases, after their number. A case: tensors (DLPack type code, bits, dimensions, sides,
// then the elements as they lie in memory), after their number; calls (function, arguments, tensors by number), after theirs.

#include <stdio.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

#define MOST 64

extern const TVMFFISafeCallType FUNCTIONS[];  // written for the case, in the order in which calls count them

static void* allocate(int device_type, int device, uint64_t bytes, int code, int bits) {
  return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static int release(int device_type, int device, void* memory) {
  free(memory);
  return 0;
}

void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void*) = release;

void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int i = 0; i < count; ++i) fputs(parts[i] ? parts[i] : "", stderr);
}

static void take(void* to, size_t bytes, FILE* file) {
  if (fread(to, 1, bytes, file) != bytes) exit(2);
}

static int64_t number(FILE* file) {
  int64_t value;
  take(&value, sizeof value, file);
  return value;
}

static size_t read_tensor(DLTensor* tensor, FILE* file) {
  size_t bytes = 1;
  *tensor = (DLTensor){.device = {kDLCPU, 0}};
  tensor->dtype.code = number(file);
  tensor->dtype.bits = number(file);
  tensor->dtype.lanes = 1;
  tensor->ndim = number(file);
  tensor->shape = malloc(MOST * sizeof(int64_t));
  for (int i = 0; i < tensor->ndim; ++i) bytes *= tensor->shape[i] = number(file);
  bytes *= tensor->dtype.bits / 8;
  tensor->data = allocate(0, 0, bytes, 0, 0);
  take(tensor->data, bytes, file);
  return bytes;
}

static int call(DLTensor* tensors, FILE* file) {
  TVMFFISafeCallType function = FUNCTIONS[number(file)];
  TVMFFIAny given[MOST] = {0}, result = {0};
  int64_t taken = number(file);
  for (int i = 0; i < taken; ++i) {
    given[i].type_index = kTVMFFIDLTensorPtr;
    given[i].v_ptr = &tensors[number(file)];
  }
  return function(NULL, given, taken, &result);
}

static void run_case(FILE* file) {
  DLTensor tensors[MOST];
  size_t bytes = 0;
  int64_t size = number(file);
  for (int i = 0; i < size; ++i) bytes = read_tensor(&tensors[i], file);
  for (int64_t calls = number(file); calls > 0; --calls) {
    if (call(tensors, file)) exit(1);
  }
  if (fwrite(tensors[size - 1].data, 1, bytes, stdout) != bytes || fflush(stdout)) exit(3);
  for (int i = 0; i < size; ++i) {
    free(tensors[i].shape);
    free(tensors[i].data);
  }
}

int main(int count, char** arguments) {
  FILE* file = fopen(arguments[count - 1], "rb");
  for (int64_t cases = number(file); cases > 0; --cases) run_case(file);
  return 0;
}
