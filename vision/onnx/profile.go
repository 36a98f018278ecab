//go:build !novision

package onnx

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>

// OrtApi is a table of functions to which newer versions only append. These
// are places in it; a test compares them with the binding's header.
enum {
	GET_ERROR_MESSAGE = 2,
	ENABLE_PROFILING = 14,
	ALLOCATOR_FREE = 76,
	GET_DEFAULT_ALLOCATOR = 78,
	RELEASE_STATUS = 93,
	SESSION_END_PROFILING = 110,
	API_VERSION = 22,
};

typedef void *const *table;
typedef struct {
	table (*get_api)(uint32_t version);
	const char *(*get_version)(void);
} api_base;

static table find_api(const char *library) {
	void *lib = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
	if (!lib) return NULL;
	const api_base *(*get)(void) = (const api_base *(*)(void))dlsym(lib, "OrtGetApiBase");
	dlclose(lib); // the binding holds it
	return get ? get()->get_api(API_VERSION) : NULL;
}

static const char *error_message(table api, void *status) {
	return ((const char *(*)(const void *))api[GET_ERROR_MESSAGE])(status);
}

static void release_status(table api, void *status) {
	((void (*)(void *))api[RELEASE_STATUS])(status);
}

static void *enable_profiling(table api, void *options, const char *prefix) {
	return ((void *(*)(void *, const char *))api[ENABLE_PROFILING])(options, prefix);
}

static void *end_profiling(table api, void *session, char **path) {
	void *allocator = NULL;
	void *status = ((void *(*)(void **))api[GET_DEFAULT_ALLOCATOR])(&allocator);
	if (status) return status;
	char *name = NULL;
	status = ((void *(*)(void *, void *, char **))api[SESSION_END_PROFILING])(session, allocator, &name);
	if (status) return status;
	*path = name;
	return NULL;
}

static void *free_path(table api, char *path) {
	void *allocator = NULL;
	void *status = ((void *(*)(void **))api[GET_DEFAULT_ALLOCATOR])(&allocator);
	return status ? status : ((void *(*)(void *, void *))api[ALLOCATOR_FREE])(allocator, path);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
)

// profiler records which node of a session runs where. The binding has no call
// for it, so these are C calls of our own on the binding's session.
type profiler struct {
	api C.table
	dir string // a scratch directory of its own
}

// profile starts to record the session that will be made with these options.
// The caller closes the profiler.
func profile(o Options, options *ort.SessionOptions) (_ *profiler, err error) {
	path, err := filepath.Abs(o.Library)
	if err != nil {
		return nil, err
	}
	library := C.CString(path)
	defer C.free(unsafe.Pointer(library))
	p := &profiler{api: C.find_api(library)}
	if p.api == nil {
		return nil, fmt.Errorf("%w %s: its functions for profiling are not found", ErrLibrary, path)
	}
	if p.dir, err = o.scratch(); err != nil {
		return nil, fmt.Errorf("where the nodes run cannot be recorded: %w", err)
	}
	handle, err := handle(options, "o")
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	prefix := C.CString(filepath.Join(p.dir, "run"))
	defer C.free(unsafe.Pointer(prefix))
	if err := p.failed(C.enable_profiling(p.api, handle, prefix)); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// Names of the directories of records, and how old one is that a killed process
// has left.
const (
	profilePrefix = "onnx-profile-"
	profileOld    = 24 * time.Hour
)

// scratch makes a directory for one record.
func (o Options) scratch() (string, error) {
	if o.Scratch == "" {
		return os.MkdirTemp("", profilePrefix)
	}
	err := os.MkdirAll(o.Scratch, 0o750)
	if err == nil {
		err = sweep(o.Scratch, time.Now().Add(-profileOld))
	}
	if err == nil {
		var dir string
		if dir, err = os.MkdirTemp(o.Scratch, profilePrefix); err == nil {
			return dir, nil
		}
	}
	dir, errTemp := os.MkdirTemp("", profilePrefix)
	if errTemp != nil {
		return "", fmt.Errorf("%w; %w", err, errTemp)
	}
	return dir, nil
}

// sweep removes records that were begun before a time: a process that was
// killed leaves one.
func sweep(dir string, before time.Time) error {
	left, err := filepath.Glob(filepath.Join(dir, profilePrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && info.ModTime().Before(before) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// end stops recording and returns the nodes that ran.
func (p *profiler) end(made session) ([]node, error) {
	if v, ok := made.(*varying); ok {
		inner, err := handle(v.DynamicAdvancedSession, "s")
		if err != nil {
			return nil, err
		}
		made = (*ort.AdvancedSession)(inner)
	}
	handle, err := handle(made, "ortSession")
	if err != nil {
		return nil, err
	}
	var path *C.char
	if err := p.failed(C.end_profiling(p.api, handle, &path)); err != nil {
		return nil, err
	}
	name := C.GoString(path)
	if err := p.failed(C.free_path(p.api, path)); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("the record of where the nodes ran: %w", err)
	}
	return readProfile(raw)
}

func (p *profiler) close() error { return os.RemoveAll(p.dir) }

// failed is the error of a status, which it frees.
func (p *profiler) failed(status unsafe.Pointer) error {
	if status == nil {
		return nil
	}
	defer C.release_status(p.api, status)
	return fmt.Errorf("profiling: %s", C.GoString(C.error_message(p.api, status)))
}

// handle is the C pointer in a field of one of the binding's structs.
func handle(of any, field string) (unsafe.Pointer, error) {
	f := reflect.ValueOf(of).Elem().FieldByName(field)
	if !f.IsValid() || f.Kind() != reflect.Pointer || f.IsNil() {
		return nil, fmt.Errorf("profiling: the binding's %T has no pointer %q: it is not the version that this was written for", of, field)
	}
	return f.UnsafePointer(), nil
}
