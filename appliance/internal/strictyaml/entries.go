package strictyaml

import "go.yaml.in/yaml/v3"

// entry is one key of a mapping with its value.
type entry struct {
	key, value *yaml.Node
}

// entries returns the keys of mapping n with those of its merge keys; a key of the mapping's own wins over a merged one
// and an earlier merged mapping over a later one.
func (d *decoder) entries(n *yaml.Node, a at) []entry {
	var out, merges []entry
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), n.Content[i+1]
		switch first, dup := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.report(at{path: a.path, line: n.Content[i].Line}, "expected a plain key, got %s", describe(key))
		case key.ShortTag() == "!!merge":
			merges = append(merges, entry{n.Content[i], value})
		case dup:
			d.report(a.key(key.Value, key.Line), "duplicate key%s", d.firstSet(first))
		default:
			seen[key.Value] = key.Line
			out = append(out, entry{key, value})
		}
	}
	for _, m := range merges {
		out = d.merge(m, a, seen, out)
	}
	return out
}

// merge appends to out the entries of what the merge key m refers to and that seen does not have.
func (d *decoder) merge(m entry, a at, seen map[string]int, out []entry) []entry {
	d.depth++
	defer func() { d.depth-- }()
	from := []*yaml.Node{m.value}
	if list := resolve(m.value); list.Kind == yaml.SequenceNode {
		from = list.Content
	}
	for _, n := range from {
		here := at{path: a.path, line: m.key.Line}
		if !d.enter(here) {
			return out
		}
		n = resolve(n)
		if n.Kind != yaml.MappingNode {
			d.report(here, "expected a mapping or a list of mappings to merge, got %s", describe(n))
			continue
		}
		d.values += len(n.Content) / 2
		for _, e := range d.entries(n, a) {
			if _, have := seen[e.key.Value]; !have {
				seen[e.key.Value] = e.key.Line
				out = append(out, e)
			}
		}
	}
	return out
}

// resolve follows aliases to the node they stand for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
