"""The shapes that shell commands have: what is published, when, and what others see meanwhile."""
import os
import sys

from harness import equal, get, put, run

OLD = 'two\none\n'
SEE = 'cat k >&2'  # another process, which sees what is published
QUIET = 'exec 2> /dev/null'  # a shell tells of killed commands
SUICIDE = 'sh -c "kill -9 \\$\\$"'
PYTHON = sys.executable

# A script, the value of k (OLD before) after it, and what was seen of k on the way.  In any shell.
SHAPES = (
    ('echo x > k', 'x\n', ''),
    (f'{{ echo x; {SEE}; echo y; }} > k', 'x\ny\n', OLD),
    (f'( echo x; {SEE}; echo y ) > k', 'x\ny\n', OLD),
    (f'for i in 1 2 3; do echo $i; {SEE}; done > k', '1\n2\n3\n', 3 * OLD),
    (f'while read l; do echo "[$l]"; {SEE}; done < k > k', '[two]\n[one]\n', 2 * OLD),
    (f'f() {{ echo x; {SEE}; }}; f > k', 'x\n', OLD),
    (f'sh -c "echo x; {SEE}; echo y" > k', 'x\ny\n', OLD),
    (': > k', '', ''),
    ('> k', '', ''),
    ('true > k', '', ''),
    (': >> k', OLD, ''),
    ('false > k || echo x >> k', 'x\n', ''),
    ('no-such-command > k 2> /dev/null || echo x >> k', 'x\n', ''),
    # appending
    ('echo x >> k', OLD + 'x\n', ''),
    (f'{{ echo x; {SEE}; echo y; {SEE}; }} >> k', OLD + 'x\ny\n', f'{OLD}x\n{OLD}x\ny\n'),
    (f'exec 3>> k; echo x >&3; {SEE}; exec 3>&-', OLD + 'x\n', OLD + 'x\n'),
    ('for i in 1 2 3; do echo $i >> k & done; wait; sort -o k k', '1\n2\n3\none\ntwo\n', ''),
    # descriptors that stay
    (f'exec 3> k; echo x >&3; {SEE}; echo y >&3; {SEE}; exec 3>&-; {SEE}', 'x\ny\n', 2 * OLD + 'x\ny\n'),
    (f'exec 3<> k; read l <&3; echo "[$l]" >&3; {SEE}; exec 3>&-', 'two\n[two]\n', OLD),
    (f'exec 3> k 4>&3; echo x >&3; exec 3>&-; {SEE}; echo y >&4; exec 4>&-', 'x\ny\n', OLD),
    (f'exec 3> k; {{ echo x; echo y >&2; }} >&3 2>&3; sh -c "echo z >&3"; {SEE}; exec 3>&-', 'x\ny\nz\n', OLD),
    ('exec > k; echo x; echo y', 'x\ny\n', ''),
    (f'exec 3< k; echo x > k; cat <&3 >&2; {SEE}', 'x\n', OLD + 'x\n'),
    ('echo xxx 1<> k', 'xxx\none\n', ''),
    ('{ echo x; echo y >&2; } > k 2>&1', 'x\ny\n', ''),
    # pipes
    (f'{{ echo x; {SEE}; :; }} | tee k > /dev/null', 'x\n', OLD),
    ('echo x | tee -a k > /dev/null', OLD + 'x\n', ''),
    ('echo x | tee k k2 > /dev/null; cmp k k2', 'x\n', ''),
    ('echo x | tee /dev/stderr 2> k > /dev/null', 'x\n', ''),
    ('echo x | tee /dev/stdout > k', 'x\n', ''),
    ('echo x | cat > k', 'x\n', ''),
    ('cat k | tr a-z A-Z | cat - k > k.new && mv k.new k', 'TWO\nONE\n' + OLD, ''),
    ('seq 5 | while read i; do echo $i; done > k', '1\n2\n3\n4\n5\n', ''),
    ('seq 100000 | head -n 1 > k', '1\n', ''),
    # reading and writing one key
    ('sort -o k k', 'one\ntwo\n', ''),
    ('sort < k > k', 'one\ntwo\n', ''),
    ('cat k | sort > k.new && cat k.new > k', 'one\ntwo\n', ''),
    ('sort < k > k.new && mv k.new k', 'one\ntwo\n', ''),
    ('cp k k.bak && sort k.bak > k && rm k.bak', 'one\ntwo\n', ''),
    ('rm k; echo x > k', 'x\n', ''),
    ('v=$(cat k); echo "$v" x > k', 'two\none x\n', ''),
    ('read l < k; echo $l > k', 'two\n', ''),
    ('ln -s k link; echo x > link; rm link', 'x\n', ''),
    ('awk \'{ print NR, $0 > "k.new" }\' k; mv k.new k', '1 two\n2 one\n', ''),
    # text in the script
    ('cat > k <<END\nx $((1 + 1))\nEND', 'x 2\n', ''),
    ('cat > k <<"END"\n$x\nEND', '$x\n', ''),
    ('cat >> k <<-END\n\tx\n\tEND', OLD + 'x\n', ''),
    # how commands end
    (f'(echo x; exit 3) > k; {SEE}', 'x\n', 'x\n'),
    ('timeout 0.1 sh -c "echo x; exec sleep 9" > k || :', 'x\n', ''),
    (f'{QUIET}; (sh -c "echo x; kill -9 \\$\\$"; echo y) > k', 'x\ny\n', ''),
    (f'{QUIET}; (echo x; exec {SUICIDE}) > k || :', OLD, ''),
    (f'{QUIET}; (echo x; exec {SUICIDE}) >> k || :', OLD + 'x\n', ''),
    ('nohup sh -c "kill -HUP \\$\\$; echo x" > k 2> /dev/null', 'x\n', ''),
    (f'(sleep 0.1; echo x) > k & {SEE}; wait; {SEE}', 'x\n', OLD + 'x\n'),
    ('trap "echo x > k" EXIT; exit 0', 'x\n', ''),
    ('sh -c "trap \\"echo trapped; exit\\" TERM; echo x; kill \\$\\$" > k', 'x\ntrapped\n', ''),
    ('echo k | xargs -n 1 sh -c \'echo x > $1\' sh', 'x\n', ''),
    ('find . -name k -exec sh -c \'echo x > $1\' sh {} \\;', 'x\n', ''),
    # the tools that write files
    ('cp /dev/null k', '', ''),
    ('echo x > k2; cp k2 k', 'x\n', ''),
    ('echo x > k2; cp --remove-destination k2 k', 'x\n', ''),
    ('echo x > k2; cp -b k2 k; cat k~ >&2', 'x\n', OLD),
    ('echo x > k2; cp -n k2 k', OLD, ''),
    ('echo x > k2; mv k2 k', 'x\n', ''),
    ('echo x > ../f; mv ../f k', 'x\n', ''),
    ('echo x > ../f; cp -p ../f k; rm ../f', 'x\n', ''),
    ('echo x > k2; install -m 600 k2 k; test $(stat -c %a k) = 600', 'x\n', ''),
    ('echo x > k2; install -D -b k2 d/e/k; mv d/e/k k', 'x\n', ''),
    ('truncate -s 4 k', 'two\n', ''),
    ('truncate -s 0 k; truncate -s 3 k', '\0\0\0', ''),
    ('echo x | dd of=k 2> /dev/null', 'x\n', ''),
    ('echo x | dd of=k conv=notrunc 2> /dev/null', 'x\no\none\n', ''),
    ('touch k new; rm new', OLD, ''),
    ('sed -i s/two/2/ k', '2\none\n', ''),
    ('sed -i.bak s/two/2/ k; cat k.bak >&2', '2\none\n', OLD),
    ('perl -i -pe s/two/2/ k', '2\none\n', ''),
    ('gzip k; gunzip k.gz', OLD, ''),
    ('split -l 1 k part.; cat part.ab part.aa > k', 'one\ntwo\n', ''),
    ('head -c 200000 /dev/zero > k; cmp -n 200000 k /dev/zero; : > k', '', ''),
    (f'{PYTHON} -c "print(1, file=open(\'k\', \'w\'))"', '1\n', ''),
    (f'{PYTHON} -c "f = open(\'k\', \'r+\'); f.read(4); f.write(\'x\')"', OLD + 'x', ''),
    (f'{PYTHON} -c "open(\'/dev/stdout\', \'w\').write(\'x\')" > k', 'x', ''),
    (f'{PYTHON} -c "import os; os.write(1, b\'x\'); os._exit(1)" > k || :', 'x', ''),
)

# It is dash itself that opens k, not the command: a command that is killed does not make the session a killed one's, and has no session.
DASH = (
    (f'{QUIET}; {SUICIDE} > k || :', '', ''),
    (f'{QUIET}; timeout -s KILL 0.1 sh -c "echo x; exec sleep 9" > k || :', 'x\n', ''),
    ('sort k > k', 'one\ntwo\n', ''),
)

# The process that becomes the command opens k.  And what only bash has.
BASH = (
    (f'{QUIET}; {SUICIDE} > k || :', OLD, ''),
    (f'{QUIET}; timeout -s KILL 0.1 sh -c "echo x; exec sleep 9" > k || :', OLD, ''),
    (f'{QUIET}; {PYTHON} -c "import os; os.write(1, b\'x\'); os.abort()" > k || :', OLD, ''),
    ('sort k > k', '', ''),
    ('cat <<< x > k', 'x\n', ''),
    ('echo "$(< k) x" > k.new; mv k.new k', 'two\none x\n', ''),
    ('mapfile -t a < k; printf "%s\\n" "${a[@]}" x > k', OLD + 'x\n', ''),
    ('{ echo x; echo y >&2; } &> k', 'x\ny\n', ''),
    ('{ echo x; echo y >&2; } &>> k', OLD + 'x\ny\n', ''),
    (f'{QUIET}; set -C; ! echo x > k; echo y >| k', 'y\n', ''),
    ('exec {fd}> k; echo x >&$fd; cat k >&2; exec {fd}>&-', 'x\n', OLD),
    ('exec 3<> k; read -r l <&3; echo "[$l]" >&3; exec 3>&-', 'two\n[two]\n', ''),
    ('cat <(sort k) k > k.new; mv k.new k', 'one\ntwo\n' + OLD, ''),
    ('coproc cat > k; echo x >&${COPROC[1]}; cat k >&2; exec {COPROC[1]}>&-; wait', 'x\n', OLD),
    ('printf -v x "%s" "$(sort k)"; echo "$x" > k', 'one\ntwo\n', ''),
)


def shapes_in(b, shell, shapes):
    b.up('-o', 'durability=none')
    for script, after, seen in shapes:
        for name in os.listdir(b.mnt):
            run('rm', '-r', b.path(name))
        put(b.path('k'), OLD.encode())
        said = run(shell, '-c', script, cwd=b.mnt).decode()
        equal((said, get(b.path('k')).decode()), (seen, after), f'{shell}: {script}')


def test_any_shell(b):
    shapes_in(b, 'dash', (*SHAPES, *DASH))


def test_bash(b):
    shapes_in(b, 'bash', (*SHAPES, *BASH))
