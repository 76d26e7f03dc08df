package main

import (
	"testing"
)

// validateAPI returns what is wrong with the flags of the API.
func validateAPI(a apiFlags) error {
	config := (&serveFlags{api: a}).config(nil)
	return blameFlags(config.Services.Validate())
}

func TestAPIFlags(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "https://images.example": true, "http://127.0.0.1:8080/sub": true,
		"images.example": false, "ftp://images.example": false, "https://": false, "https://u:p@x": false, "https://x?y": false,
	} {
		if err := validateAPI(apiFlags{publicURL: address, watchers: 1}); (err == nil) != ok {
			t.Errorf("--public-url %q: %v", address, err)
		}
		if err := validateAPI(apiFlags{peers: []string{"http://h", address}, watchers: 1}); (err == nil) != (ok && address != "") {
			t.Errorf("--peer-url %q: %v", address, err)
		}
	}
	if validateAPI(apiFlags{}) == nil {
		t.Error("no watchers at all")
	}
}
