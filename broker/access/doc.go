// Package access knows who may use the broker, and for what: users and their
// passwords, and the rules of an access control list (ACL).
//
// It owns the two files. A file is read whole or not at all, and what is wrong
// with it is an error that names file and line. What was read never changes
// and may be used from any goroutine.
//
// It promises that a password is never in an error or in the text of a value,
// and that no hash, however large its parameters say that it is, makes a login
// cost more than MaxMemory and MaxPasses.
package access
