package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// The standard library has no JWT. This file implements the signature algorithms that the flows need (RFC 7518 §3).

type claims map[string]any

func b64(bytes []byte) string { return base64.RawURLEncoding.EncodeToString(bytes) }

func unb64(text string) []byte {
	bytes, err := base64.RawURLEncoding.DecodeString(text)
	must(err)
	return bytes
}

func randomText() string {
	bytes := make([]byte, 18)
	rand.Read(bytes)
	return b64(bytes)
}

func hashOf(alg string, signed []byte) ([]byte, crypto.Hash) {
	if strings.HasSuffix(alg, "384") {
		sum := sha512.Sum384(signed)
		return sum[:], crypto.SHA384
	}
	sum := sha256.Sum256(signed)
	return sum[:], crypto.SHA256
}

func parseKey(text string) crypto.Signer {
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(err)
	return key.(crypto.Signer)
}

func signJwt(key crypto.Signer, header, payload claims) string {
	headerText, _ := json.Marshal(header)
	payloadText, _ := json.Marshal(payload)
	signed := b64(headerText) + "." + b64(payloadText)
	digest, hash := hashOf(header["alg"].(string), []byte(signed))
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		must(err)
		size := (key.Curve.Params().BitSize + 7) / 8
		signature := make([]byte, 2*size)
		r.FillBytes(signature[:size])
		s.FillBytes(signature[size:])
		return signed + "." + b64(signature)
	case *rsa.PrivateKey:
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		signature, err := rsa.SignPSS(rand.Reader, key, hash, digest, options)
		must(err)
		return signed + "." + b64(signature)
	}
	panic("no such key")
}

// assertion returns a JWT that authenticates a client (RFC 7523 §3).
func assertion(own client, audience string) string {
	now := time.Now().Unix()
	return signJwt(parseKey(own.Pem), claims{"alg": own.Jwk["alg"], "kid": own.Jwk["kid"]}, claims{
		"iss": own.ID, "sub": own.ID, "aud": audience, "jti": randomText(), "iat": now, "exp": now + 60,
	})
}

// proof returns a DPoP proof (RFC 9449 §4.2).
func proof(key *ecdsa.PrivateKey, method, url, nonce, accessToken string) string {
	payload := claims{"jti": randomText(), "htm": method, "htu": url, "iat": time.Now().Unix()}
	if nonce != "" {
		payload["nonce"] = nonce
	}
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		payload["ath"] = b64(sum[:])
	}
	x, y := make([]byte, 32), make([]byte, 32)
	key.X.FillBytes(x)
	key.Y.FillBytes(y)
	jwk := claims{"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}
	return signJwt(key, claims{"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}, payload)
}

// verifyIDToken makes the checks of OpenID Connect Core §3.1.3.7, checks at_hash, and returns the claims of the ID
// token.
func (c *caller) verifyIDToken(token, accessToken string) claims {
	parts := strings.Split(token, ".")
	var header struct{ Alg, Kid string }
	must(json.Unmarshal(unb64(parts[0]), &header))
	check(header.Alg == c.own.IDTokenAlg, "the ID token is signed with %s", header.Alg)
	var set struct{ Keys []map[string]string }
	c.getJSON(c.metadata.JwksURI, &set)
	index := slices.IndexFunc(set.Keys, func(key map[string]string) bool { return key["kid"] == header.Kid })
	check(index >= 0, "jwks_uri has no key %s", header.Kid)
	digest, hash := hashOf(header.Alg, []byte(parts[0]+"."+parts[1]))
	isSigned := isSignature(set.Keys[index], header.Alg, hash, digest, unb64(parts[2]))
	check(isSigned, "the signature of the ID token is wrong")
	var payload claims
	must(json.Unmarshal(unb64(parts[1]), &payload))
	expected := claims{"iss": material.Issuer, "aud": c.own.ID, "sub": material.Sub}
	for name, value := range expected {
		check(payload[name] == value, "%s of the ID token is %v", name, payload[name])
	}
	check(payload["exp"].(float64) > float64(time.Now().Unix()), "the ID token has expired")
	if atHash, isThere := payload["at_hash"]; isThere {
		sum, _ := hashOf(header.Alg, []byte(accessToken))
		check(atHash == b64(sum[:len(sum)/2]), "at_hash of the ID token is wrong")
	}
	return payload
}

func isSignature(jwk map[string]string, alg string, hash crypto.Hash, digest, signature []byte) bool {
	number := func(name string) *big.Int { return new(big.Int).SetBytes(unb64(jwk[name])) }
	if jwk["kty"] == "EC" {
		key := &ecdsa.PublicKey{Curve: elliptic.P256(), X: number("x"), Y: number("y")}
		half := len(signature) / 2
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return ecdsa.Verify(key, digest, r, s)
	}
	key := &rsa.PublicKey{N: number("n"), E: int(number("e").Int64())}
	if alg[:2] == "PS" {
		return rsa.VerifyPSS(key, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	}
	return rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
}

func check(holds bool, message string, values ...any) {
	if !holds {
		panic(fmt.Sprintf(message, values...))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
