// An ONNX Runtime that replaces signal handlers when it makes a session, as
// CUDA does. The real one is at REAL; a test compiles this with its path.
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

enum { CREATE_SESSION = 7, CREATE_SESSION_FROM_ARRAY = 8, ENTRIES = 318 /* of version 22 */ };

typedef struct {
	void *const *(*get_api)(uint32_t version);
	const char *(*get_version)(void);
} api_base;

static const api_base *real;
static void *api[ENTRIES];
static void *(*create)(void *, void *, void *, void *);
static void *(*create_from_array)(void *, void *, size_t, void *, void *);

static void nothing(int signal) { (void)signal; }

static void replace_handlers(void) {
	struct sigaction plain, ignoring;
	memset(&plain, 0, sizeof plain);
	memset(&ignoring, 0, sizeof ignoring);
	plain.sa_handler = SIG_DFL;
	sigaction(SIGTERM, &plain, NULL);
	ignoring.sa_handler = nothing; // and without SA_ONSTACK, which ends a Go program
	sigaction(SIGINT, &ignoring, NULL);
}

static void *create_and_replace(void *env, void *path, void *options, void *out) {
	void *status = create(env, path, options, out);
	replace_handlers();
	return status;
}

static void *create_from_array_and_replace(void *env, void *data, size_t length, void *options, void *out) {
	void *status = create_from_array(env, data, length, options, out);
	replace_handlers();
	return status;
}

static void *const *get_api(uint32_t version) {
	void *const *table = real->get_api(version);
	if (!table) return NULL;
	memcpy(api, table, sizeof api);
	create = api[CREATE_SESSION];
	create_from_array = api[CREATE_SESSION_FROM_ARRAY];
	api[CREATE_SESSION] = create_and_replace;
	api[CREATE_SESSION_FROM_ARRAY] = create_from_array_and_replace;
	return api;
}

static const char *get_version(void) { return real->get_version(); }

const api_base *OrtGetApiBase(void) {
	static const api_base base = {get_api, get_version};
	void *library = dlopen(REAL, RTLD_NOW);
	if (!library) return NULL;
	real = ((const api_base *(*)(void))dlsym(library, "OrtGetApiBase"))();
	return &base;
}
