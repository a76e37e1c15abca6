// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

// Contracts for tests with the interfaces that the lookahead asks, and setters in place of rules.
// `mocks.json` has the ABI and bytecode of each; the crate's README says how they were compiled.

/// The whitelist: whoever is set for an epoch, else the first operator.
contract Whitelist {
    uint256 public genesis;
    uint256 public epochSeconds = 384;
    address[] internal list;
    mapping(uint256 => address) internal drawn;

    event OperatorAdded(address indexed proposer, address indexed sequencer, uint256 activeSince);
    event OperatorRemoved(address indexed proposer, address indexed sequencer, uint256 inactiveSince);

    constructor(uint256 genesis_) {
        genesis = genesis_;
    }

    function setEpochSeconds(uint256 seconds_) external {
        epochSeconds = seconds_;
    }

    function draw(uint256 epoch, address operator) external {
        drawn[epoch] = operator;
    }

    function add(address operator) external {
        list.push(operator);
        emit OperatorAdded(operator, operator, block.timestamp);
    }

    function remove(address operator) external {
        for (uint256 i = 0; i < list.length; i++) {
            if (list[i] == operator) {
                list[i] = list[list.length - 1];
                list.pop();
                break;
            }
        }
        emit OperatorRemoved(operator, operator, block.timestamp);
    }

    function operatorCount() external view returns (uint256) {
        return list.length;
    }

    function operatorMapping(uint256 index) external view returns (address) {
        return list[index];
    }

    function getOperatorForCurrentEpoch() external view returns (address) {
        return operatorOf((block.timestamp - genesis) / epochSeconds);
    }

    function getOperatorForNextEpoch() external view returns (address) {
        return operatorOf((block.timestamp - genesis) / epochSeconds + 1);
    }

    function operatorOf(uint256 epoch) internal view returns (address) {
        address operator = drawn[epoch];
        for (uint256 i = 0; i < list.length; i++) {
            if (list[i] == operator) return operator;
        }
        require(list.length > 0, "no operator");
        return list[0];
    }
}

struct Slot {
    address committer;
    uint256 timestamp;
    bytes32 registrationRoot;
    uint256 validatorLeafIndex;
}

/// What both generations of the store have.
abstract contract Store {
    address public preconfWhitelist;
    mapping(bytes32 => bool) public isOperatorBlacklisted;

    event Blacklisted(bytes32 indexed registrationRoot, uint48 timestamp);
    event Unblacklisted(bytes32 indexed registrationRoot, uint48 timestamp);

    constructor(address whitelist) {
        preconfWhitelist = whitelist;
    }

    function blacklist(bytes32 root, bool listed) external {
        isOperatorBlacklisted[root] = listed;
        if (listed) emit Blacklisted(root, uint48(block.timestamp));
        else emit Unblacklisted(root, uint48(block.timestamp));
    }
}

contract StoreV1 is Store {
    event LookaheadPosted(uint256 indexed epochTimestamp, bytes32 lookaheadHash, Slot[] lookaheadSlots);

    constructor(address whitelist) Store(whitelist) {}

    function getLookaheadStoreConfig() external pure returns (uint16, uint80, uint80) {
        return (503, 1, 1);
    }

    function post(uint256 epochTimestamp, Slot[] calldata slots) external {
        bytes32 hash = bytes32(bytes26(keccak256(abi.encode(epochTimestamp, slots))));
        emit LookaheadPosted(epochTimestamp, hash, slots);
    }
}

contract StoreV2 is Store {
    event LookaheadPosted(uint256 indexed epochTimestamp, bytes26 lookaheadHash);

    constructor(address whitelist) Store(whitelist) {}

    function LOOKAHEAD_BUFFER_SIZE() external pure returns (uint256) {
        return 503;
    }

    function posted(uint256 epochTimestamp, bytes calldata slots) external {
        emit LookaheadPosted(epochTimestamp, bytes26(keccak256(abi.encode(epochTimestamp, slots))));
    }
}

/// The inbox: names its proposer checker, and posts what a proposal carries for the next epoch.
contract Inbox {
    struct Config {
        address codec;
        address other;
        address proposerChecker;
        uint48 provingWindow;
    }

    struct LookaheadData {
        uint256 slotIndex;
        bytes currLookahead;
        bytes nextLookahead;
        bytes signature;
    }

    address internal checker;

    constructor(address checker_) {
        checker = checker_;
    }

    function getConfig() external view returns (Config memory) {
        return Config(address(this), address(0), checker, 7200);
    }

    function propose(bytes calldata lookahead, bytes calldata data) external {
        LookaheadData memory given = abi.decode(lookahead, (LookaheadData));
        StoreV2(checker).posted(abi.decode(data, (uint256)), given.nextLookahead);
    }
}
