package main

import "testing"

func TestAPIFlags(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "https://images.example": true, "http://127.0.0.1:8080/sub": true,
		"images.example": false, "ftp://images.example": false, "https://": false, "https://u:p@x": false, "https://x?y": false,
	} {
		if err := (&apiFlags{publicURL: address, watchers: 1}).validate(); (err == nil) != ok {
			t.Errorf("--public-url %q: %v", address, err)
		}
		if err := (&apiFlags{peers: []string{"http://h", address}, watchers: 1}).validate(); (err == nil) != (ok && address != "") {
			t.Errorf("--peer-url %q: %v", address, err)
		}
	}
	if (&apiFlags{}).validate() == nil {
		t.Error("no watchers at all")
	}
}
