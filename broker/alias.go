package broker

// alias stands for a topic on one connection (MQTT 5, section 3.3.2.3.4).
type alias struct {
	number uint16 // 0: none
	known  bool   // to the device, which is sent no topic
}

// maxAliases bounds what a connection keeps, whatever its device allows.
const maxAliases = 64

// aliases are those of one connection.
type aliases struct {
	most    int
	numbers map[string]uint16
}

func newAliases(most uint16) aliases {
	return aliases{min(int(most), maxAliases), map[string]uint16{}}
}

// of returns a topic's alias, which may be a new one that learnt confirms.
func (a aliases) of(topic string) alias {
	if n, ok := a.numbers[topic]; ok {
		return alias{n, true}
	}
	if len(a.numbers) >= a.most {
		return alias{}
	}
	return alias{number: uint16(len(a.numbers) + 1)}
}

// learnt notes that the device was sent a topic with its alias.
func (a aliases) learnt(topic string, l alias) {
	if l.number > 0 {
		a.numbers[topic] = l.number
	}
}
