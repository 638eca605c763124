module github.com/llm-auto-optimizer/go-sdk

go 1.21
