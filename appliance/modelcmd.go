package main

type modelCommand struct {
	Inspect modelInspectCommand `cmd:"" help:"Say what a model is: its inputs and outputs, how they are read, and what is missing."`
}
