package kernel

//go:generate go run -C gen . -part mul -out ../mul_amd64.s -stubs ../mul_amd64.go -pkg kernel
//go:generate go run -C gen . -part softmax -out ../softmax_amd64.s -stubs ../softmax_amd64.go -pkg kernel
//go:generate go run -C gen . -part vector -out ../vector_amd64.s -stubs ../vector_amd64.go -pkg kernel
//go:generate go run -C gen . -part rows -out ../rows_amd64.s -stubs ../rows_amd64.go -pkg kernel
//go:generate go run -C gen . -part elem -out ../elem_amd64.s -stubs ../elem_amd64.go -pkg kernel
//go:generate go run -C gen . -part pack -out ../pack_amd64.s -stubs ../pack_amd64.go -pkg kernel
//go:generate go run -C gen . -part recur -out ../recur_amd64.s -stubs ../recur_amd64.go -pkg kernel
//go:generate go run -C gen . -part bf16 -out ../bf16_amd64.s -stubs ../bf16_amd64.go -pkg kernel
