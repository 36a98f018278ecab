package main

import (
	"fmt"
	"reflect"

	"outstation/broker/access"
)

// accessFiles are who may use the broker, and for what, as the files say.
type accessFiles struct {
	users *access.Users // nil without a file
	acl   *access.ACL   // nil without a file
}

// access reads the files that a configuration names.
func (c BrokerConfig) access() (out accessFiles, err error) {
	if c.UsersFile != "" {
		if out.users, err = access.ReadUsers(c.UsersFile); err != nil {
			return out, err
		}
	}
	if c.ACLFile != "" {
		out.acl, err = access.ReadACL(c.ACLFile)
	}
	return out, err
}

// readAccess reads the files again, whether or not their names changed. It
// changes nothing.
func (a *app) readAccess(cfg Config) (accessFiles, error) {
	now, err := cfg.Broker.access()
	if err != nil {
		return now, err
	}
	if (now.users == nil) != (a.access.users == nil) {
		return now, fmt.Errorf("%w broker.users_file: it decides where the broker may listen", errRestart)
	}
	return now, nil
}

// applyAccess puts what was read into force, and returns what has changed.
func (a *app) applyAccess(now accessFiles) (changed []string, err error) {
	if !reflect.DeepEqual(now.users, a.access.users) {
		changed = append(changed, "the users of broker.users_file")
	}
	if !reflect.DeepEqual(now.acl, a.access.acl) {
		changed = append(changed, "the rules of broker.acl_file")
	}
	if err := a.broker.Reload(now.users, now.acl); err != nil {
		return nil, err
	}
	a.access = now
	return changed, nil
}
