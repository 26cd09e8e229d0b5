// Writes a story from Go, as proof for other languages: go run generate.go, where pkg-config finds halfbyte.
package main

// #cgo pkg-config: halfbyte
// #include <halfbyte.h>
import "C"

import (
	"fmt"
	"runtime"
)

func check(status C.hb_status) {
	if status != C.HB_OK {
		panic(C.GoString(C.hb_last_error()))
	}
}

func main() {
	runtime.LockOSThread() // hb_last_error is the thread's
	var model *C.hb_model
	var session *C.hb_session
	var generation *C.hb_generation
	var options C.hb_generation_options
	var text [256]C.char
	check(C.hb_generation_options_init(&options, C.sizeof_hb_generation_options))
	options.max_new_tokens, options.has_seed, options.seed = 60, 1, 1
	check(C.hb_model_open(nil, nil, &model))
	check(C.hb_session_new(model, &session))
	check(C.hb_generation_start(session, C.CString("Once upon a time"), &options, &generation))
	fmt.Print("Once upon a time")
	for C.hb_generation_next(generation, &text[0], C.size_t(len(text)), nil) == C.HB_OK {
		fmt.Print(C.GoString(&text[0]))
	}
	fmt.Println()
}
