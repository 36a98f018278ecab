package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

type tokenCommand struct {
	Add tokenAddCommand `cmd:"" help:"Make a token for a machine that posts events, and print it once."`
	Ls  tokenLsCommand  `cmd:"" help:"List the tokens by name."`
	Rm  tokenRmCommand  `cmd:"" help:"Remove a token; it is refused from then on."`
}

// tokenConfig says where the tokens are.
type tokenConfig struct {
	Config string `required:"" type:"path" placeholder:"FILE" help:"Configuration file."`
}

func (c tokenConfig) load() (file string, tokens []token, err error) {
	cfg, err := loadConfig(c.Config, os.Environ())
	if err != nil {
		return "", nil, err
	}
	file = cfg.tokensFile()
	tokens, err = readTokens(file)
	return file, tokens, err
}

type tokenAddCommand struct {
	Name string `arg:"" help:"What the machine is called."`
	tokenConfig
}

// Run adds a token.
func (c *tokenAddCommand) Run(e *env) error {
	file, tokens, err := c.load()
	if err != nil {
		return err
	}
	if _, there := without(tokens, c.Name); there {
		return usageError{fmt.Errorf("there is a token called %q; remove it first", c.Name)}
	}
	secret, t, err := newToken(c.Name, time.Now())
	if err != nil {
		return usageError{err}
	}
	if err := writeTokens(file, append(tokens, t)); err != nil {
		return err
	}
	fmt.Fprintln(e.out, secret)
	return nil
}

type tokenLsCommand struct{ tokenConfig }

// Run lists the tokens.
func (c *tokenLsCommand) Run(e *env) error {
	_, tokens, err := c.load()
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for _, tok := range tokens {
		fmt.Fprintf(t, "%s\t%s\n", tok.name, tok.added.Format(time.RFC3339))
	}
	return t.Flush()
}

type tokenRmCommand struct {
	Name string `arg:"" help:"What the machine is called."`
	tokenConfig
}

// Run removes a token.
func (c *tokenRmCommand) Run(e *env) error {
	file, tokens, err := c.load()
	if err != nil {
		return err
	}
	rest, there := without(tokens, c.Name)
	if !there {
		return usageError{fmt.Errorf("there is no token called %q", c.Name)}
	}
	if err := writeTokens(file, rest); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "removed: %s\n", c.Name)
	return nil
}
