/* CUDA's driver and NVRTC on a machine without a GPU, as far as the executor calls them: the device's memory is the host's, and kernels are compiled by the C
   compiler, as loops in place of threads. What is launched or copied is done at once.

   It is stricter than a GPU: new memory is full of what is no number, and a copy that leaves an allocation ends the program. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500 };

static void check(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "the driver: %s\n", what);
    abort();
}

/* Memory. */

typedef struct Allocation {
    struct Allocation *next;
    size_t bytes;
    char *place;
} Allocation;

static Allocation *allocations;
static size_t allocated;

static int allocate(uint64_t *place, size_t bytes) {
    const char *limit = getenv("DRIVER_BYTES");
    if (bytes == 0) return INVALID_VALUE;
    if (limit && allocated + bytes > strtoull(limit, 0, 10)) return OUT_OF_MEMORY;
    Allocation *made = malloc(sizeof *made);
    made->next = allocations;
    made->bytes = bytes;
    made->place = aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset(made->place, 0xff, bytes);
    allocations = made;
    allocated += bytes;
    *place = (uintptr_t)made->place;
    return SUCCESS;
}

static int release(uint64_t place) {
    for (Allocation **at = &allocations; *at; at = &(*at)->next) {
        if ((uintptr_t)(*at)->place != place) continue;
        Allocation *gone = *at;
        *at = gone->next;
        allocated -= gone->bytes;
        memset(gone->place, 0xff, gone->bytes);
        free(gone->place);
        free(gone);
        return SUCCESS;
    }
    check(0, "memory is freed that was not allocated");
    return INVALID_VALUE;
}

static void *within(uint64_t place, size_t bytes) {
    for (Allocation *at = allocations; at; at = at->next) {
        const uintptr_t first = (uintptr_t)at->place;
        if (place >= first && place + bytes <= first + at->bytes) return (void *)(uintptr_t)place;
    }
    check(bytes == 0, "a copy leaves its memory");
    return 0;
}

int cuMemAlloc_v2(uint64_t *place, size_t bytes) { return allocate(place, bytes); }
int cuMemAllocAsync(uint64_t *place, size_t bytes, void *stream) { (void)stream; return allocate(place, bytes); }
int cuMemFree_v2(uint64_t place) { return release(place); }
int cuMemFreeAsync(uint64_t place, void *stream) { (void)stream; return release(place); }
int cuMemsetD8Async(uint64_t place, unsigned char byte, size_t bytes, void *stream) {
    (void)stream;
    if (bytes) memset(within(place, bytes), byte, bytes);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    (void)stream;
    if (bytes) memcpy(within(to, bytes), from, bytes);
    return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    (void)stream;
    if (bytes) memcpy(to, within(from, bytes), bytes);
    return SUCCESS;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    (void)stream;
    if (bytes) memmove(within(to, bytes), within(from, bytes), bytes);
    return SUCCESS;
}

/* One device with one context. */

static int context;

int cuInit(unsigned flags) { (void)flags; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal == 0 ? SUCCESS : INVALID_DEVICE; }
int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    enum { MAJOR = 75, MINOR = 76, MEMORY_POOLS = 115 };
    (void)device;
    *value = attribute == MAJOR ? 8 : attribute == MINOR ? 6 : attribute == MEMORY_POOLS;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **made, int device) { (void)device; *made = &context; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return SUCCESS; }
int cuCtxGetCurrent(void **current) { *current = &context; return SUCCESS; }
int cuCtxSetCurrent(void *current) { return current == &context ? SUCCESS : INVALID_VALUE; }
int cuCtxSynchronize(void) { return SUCCESS; }

int cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = malloc(1); return SUCCESS; }
int cuStreamDestroy_v2(void *stream) { free(stream); return SUCCESS; }
int cuStreamSynchronize(void *stream) { (void)stream; return SUCCESS; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { (void)stream; (void)event; (void)flags; return SUCCESS; }
int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = malloc(1); return SUCCESS; }
int cuEventRecord(void *event, void *stream) { (void)event; (void)stream; return SUCCESS; }
int cuEventDestroy_v2(void *event) { free(event); return SUCCESS; }

static const char *name(int error) { return error == OUT_OF_MEMORY ? "out of memory" : "an error of the driver"; }
int cuGetErrorName(int error, const char **text) { *text = name(error); return SUCCESS; }
int cuGetErrorString(int error, const char **text) { *text = name(error); return SUCCESS; }

/* The compiler: what it makes of a text is the text. */

int nvrtcCreateProgram(char **program, const char *text, const char *label, int headers, const char *const *sources, const char *const *names) {
    (void)label; (void)headers; (void)sources; (void)names;
    *program = strdup(text);
    return SUCCESS;
}
int nvrtcDestroyProgram(char **program) { free(*program); return SUCCESS; }
int nvrtcCompileProgram(char *program, int count, const char *const *options) {
    int contracts = 1, of_device = 0;
    (void)program;
    for (int i = 0; i < count; i++) {
        if (!strcmp(options[i], "--fmad=false")) contracts = 0;
        if (!strcmp(options[i], "--gpu-architecture=compute_86")) of_device = 1;
    }
    check(!contracts, "a product and a sum may become one operation");
    check(of_device, "kernels are not for this device");
    return SUCCESS;
}
int nvrtcGetPTXSize(char *program, size_t *bytes) { *bytes = strlen(program) + 1; return SUCCESS; }
int nvrtcGetPTX(char *program, char *text) { strcpy(text, program); return SUCCESS; }
int nvrtcGetProgramLogSize(char *program, size_t *bytes) { (void)program; *bytes = 1; return SUCCESS; }
int nvrtcGetProgramLog(char *program, char *text) { (void)program; *text = 0; return SUCCESS; }

/* Modules: shared libraries in the folder `DRIVER_FOLDER`. */

int cuModuleLoadData(void **module, const void *text) {
    static int count;
    char source[4096], library[4096], command[9000];
    const char *folder = getenv("DRIVER_FOLDER");
    check(folder != 0, "DRIVER_FOLDER is not set");
    snprintf(source, sizeof source, "%s/kernels%d.c", folder, count);
    snprintf(library, sizeof library, "%s/kernels%d.so", folder, count++);
    FILE *file = fopen(source, "w");
    check(file != 0, "the text of kernels cannot be written");
    fputs(text, file);
    fclose(file);
    snprintf(command, sizeof command, "cc -std=c11 -O0 -ffp-contract=off -shared -fPIC -o '%s' '%s' -lm", library, source);
    if (system(command)) return INVALID_IMAGE;
    *module = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    return *module ? SUCCESS : INVALID_IMAGE;
}
int cuModuleUnload(void *module) { dlclose(module); return SUCCESS; }
int cuModuleGetFunction(void **function, void *module, const char *label) {
    *function = dlsym(module, label);
    return *function ? SUCCESS : NOT_FOUND;
}

typedef void Kernel(void *, void *, void *, void *, uint64_t, void *, void *);

int cuLaunchKernel(
    void *kernel, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads, unsigned threads_y, unsigned threads_z,
    unsigned shared, void *stream, void **arguments, void **extra
) {
    void *pointers[7];
    (void)shared; (void)stream; (void)extra;
    check(blocks > 0 && blocks_y == 1 && blocks_z == 1 && threads == 256 && threads_y == 1 && threads_z == 1, "the form of a launch");
    for (int i = 0; i < 7; i++) pointers[i] = *(void **)arguments[i];
    ((Kernel *)kernel)(
        pointers[0], pointers[1], pointers[2], pointers[3], *(uint64_t *)arguments[4], pointers[5], pointers[6]
    );
    return SUCCESS;
}
