// Writes a story from Go, as proof for other languages: go run generate.go, where pkg-config finds halfbyte.
package main

// #cgo pkg-config: halfbyte
// #include <halfbyte.h>
import "C"
import (
	"fmt"
	"log"
	"runtime"
	"unsafe"
)

func check(status C.hb_status) C.hb_status {
	if status != C.HB_OK && status != C.HB_END {
		log.Fatal(C.GoString(C.hb_last_error()))
	}
	return status
}

func main() {
	runtime.LockOSThread() // hb_last_error is the thread's
	var model *C.hb_model
	var session *C.hb_session
	var generation *C.hb_generation
	var options C.hb_generation_options
	prompt, text := []byte("Once upon a time\x00"), [256]C.char{}
	check(C.hb_generation_options_init(&options, C.sizeof_hb_generation_options))
	options.max_new_tokens, options.has_seed, options.seed = 60, 1, 1
	check(C.hb_model_open(nil, nil, &model))
	defer C.hb_model_free(model)
	check(C.hb_session_new(model, &session))
	defer C.hb_session_free(session)
	check(C.hb_generation_start(session, (*C.char)(unsafe.Pointer(&prompt[0])), &options, &generation))
	defer C.hb_generation_free(generation)
	fmt.Print("Once upon a time")
	for check(C.hb_generation_next(generation, &text[0], C.size_t(len(text)), nil)) == C.HB_OK {
		fmt.Print(C.GoString(&text[0]))
	}
	fmt.Println()
}
