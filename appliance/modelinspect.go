package main

import (
	"fmt"
	"strings"
)

type modelInspectCommand struct {
	File    string   `arg:"" type:"existingfile" help:"A model in ONNX form. A model file beside it is read too: FILE's name with .yaml, or model.yaml."`
	ONNX    string   `name:"onnxruntime" placeholder:"FILE" help:"ONNX Runtime library; by default the one in --config, or that of this machine, or of the checkout."`
	Config  string   `type:"path" placeholder:"FILE" help:"Configuration of the appliance: its ONNX Runtime."`
	Classes []string `help:"Names of its classes, with commas between them, as the configuration would give them."`
}

// modelDescription is what a model says of itself.
type modelDescription struct {
	inputs, outputs, metadata, settings []string
	head                                string
	width, height, batch                int
	problem                             error // why it cannot be used
}

// Run prints what a model says of itself, and fails where it cannot be used.
func (c *modelInspectCommand) Run(e *env) error {
	args, asked := storeArgs{Config: c.Config}, *c
	cfg, _, err := args.open()
	if err != nil {
		return err
	}
	asked.ONNX = args.library(c.ONNX, cfg)
	d, err := describeModel(asked)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name  string
		lines []string
	}{{"inputs", d.inputs}, {"outputs", d.outputs}, {"metadata", d.metadata}, {"settled", d.settings}} {
		if len(part.lines) > 0 {
			fmt.Fprintf(e.out, "%s\n  %s\n", part.name, strings.Join(part.lines, "\n  "))
		}
	}
	if d.problem != nil {
		return fmt.Errorf("%s cannot be used as it is: %w", c.File, d.problem)
	}
	batch := "of any size"
	if d.batch > 0 {
		batch = fmt.Sprintf("of %d, fixed", d.batch)
	}
	fmt.Fprintf(e.out, "it can be used: head %s, input %d×%d, batches %s\n", d.head, d.width, d.height, batch)
	return nil
}
